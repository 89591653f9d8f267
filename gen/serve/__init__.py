"""Requests to a trained model, and its answers: what the served model and ``gen serve`` share."""
