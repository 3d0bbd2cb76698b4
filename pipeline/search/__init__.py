"""Searches: many trainings at once, each one a trial of a study."""
