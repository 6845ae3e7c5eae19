"""What Seamless asks of AWS. boto3 is imported here only, at the first call: it takes a good part of a second."""
