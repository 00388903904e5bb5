"""The material that every head has, with or without a photograph."""
