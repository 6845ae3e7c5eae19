"""The executor against a real engine; the images are built from the host's static busybox."""
