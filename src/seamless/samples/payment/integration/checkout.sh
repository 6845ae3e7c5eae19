#!/bin/sh
# A customer's way through the shop: gateway, payment, notification.
url='http://gateway:8080/cgi-bin/checkout?amount=200'

for attempt in 1 2 3 4 5 6 7 8 9 10; do
    answer=$(timeout 3 wget -q -O - "$url")
    echo "attempt $attempt: $answer"
    case $answer in
    *'"amount": 200'*'"told": "the customer"'*) exit 0 ;;
    esac
    sleep 0.3
done
exit 1
