"""What any room may use: files, strict JSON, arrays, checks, progress. It knows nothing about heads."""
