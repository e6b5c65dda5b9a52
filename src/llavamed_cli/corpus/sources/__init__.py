"""Where figures come from. Each source yields them one by one, and names every record that it cannot read."""
