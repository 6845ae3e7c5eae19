#!/bin/sh
# Calls the script as httpd would.
set -eu

answer=$(QUERY_STRING=paid=100 sh www/cgi-bin/notify | tail -n 1)
echo "it told $answer"
[ "$answer" = 'the customer' ]
