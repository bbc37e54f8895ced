say "writes 21 to port 0xf4"
probe outb 0xf4 21
say "is still here"
