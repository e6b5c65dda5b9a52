"""A language model reads two answers to a question, in both orders, and rates each from 1 to 10."""
