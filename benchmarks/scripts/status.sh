# What `seamless status` asks the agent for, without making it readable.
curl --silent --fail --unix-socket "$SOCKET" http://agent/v1/status
