"""What Seamless costs beside the shell script that a user would write for the same work, measured in the same call."""
