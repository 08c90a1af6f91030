"""`symbolic`: asks a unit for its value at chosen numbers or words and fits a formula."""
