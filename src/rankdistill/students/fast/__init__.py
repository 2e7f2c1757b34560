"""What makes a step fast: texts without padding, chunks, stored tokens."""
