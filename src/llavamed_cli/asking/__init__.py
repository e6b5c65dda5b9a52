"""Asking about pictures: which pictures, which model, one question or a conversation, and how sure the answer is."""
