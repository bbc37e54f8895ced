say "hello from a guest of a guest"
