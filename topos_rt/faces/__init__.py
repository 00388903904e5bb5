"""Faces in pictures: finding them, their landmarks, pose and expression, and fitting a head to them."""
