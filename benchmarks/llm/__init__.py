"""What language models cost a campaign, and how busy a campaign keeps them."""
