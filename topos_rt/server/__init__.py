"""The service over HTTP, the studio's page and batches on many machines."""
