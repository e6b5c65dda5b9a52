"""What a run will take, and what would make it fit: by the model's config and the samples' lengths alone."""
