"""Which figures are kept: by what their captions say, by their pictures, and by what was seen before."""
