"""eval: answerers answer a benchmark's questions, two score sets judge the answers, a report shows what they mean."""
