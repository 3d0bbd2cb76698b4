"""Searches: many trainings at once, each a trial of a study."""
