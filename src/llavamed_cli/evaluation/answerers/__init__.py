"""Who answers: a model, the same model without the picture, the most frequent answer, or a file someone else made."""
