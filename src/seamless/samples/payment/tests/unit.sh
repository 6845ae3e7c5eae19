#!/bin/sh
# Calls the script as httpd would, with a notification service that always answers.
set -eu

timeout() { printf 'the customer'; }

expect() {
    answer=$(QUERY_STRING=$1 && . www/cgi-bin/pay | tail -n 1)
    case $answer in
    *"$2"*) echo "ok      $1: $answer" ;;
    *) echo "not ok  $1: $answer, expected $2" && exit 1 ;;
    esac
}

expect amount=100 '"amount": 100, "fee": '
expect amount=100 '"told": "the customer"'
expect amount=0 '"fee": 0, "total": 0'
expect amount=-1 'how much?'
expect '' 'how much?'
