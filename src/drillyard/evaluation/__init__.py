"""Episodes, assessments, videos and summaries of what an agent reaches."""
