"""analysis: does acceleration interact with the model in its effect on bias? Reads results files only."""
