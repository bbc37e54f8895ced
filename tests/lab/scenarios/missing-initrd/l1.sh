say "must not be reached"
