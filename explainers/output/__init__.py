"""The output half of a description: what a unit does to the model's predictions when it is on, as a claim."""
