"""Where dreams come from: a teacher, a simulator, or the log itself."""
