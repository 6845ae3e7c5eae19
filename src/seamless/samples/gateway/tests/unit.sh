#!/bin/sh
# Calls the script as httpd would, with a payment service that answers, and with none.
set -eu

expect() {
    answer=$(QUERY_STRING=amount=100 && . www/cgi-bin/checkout | tail -n 1)
    echo "it answered: $answer"
    [ "$answer" = "$1" ]
}

timeout() { echo '{"fee": 3}'; }
expect '{"fee": 3}'
timeout() { return 1; }
expect 'payment does not answer'
