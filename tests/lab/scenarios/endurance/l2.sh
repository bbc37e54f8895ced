load_modules
count run /dev/vda $((CYCLES * 8)) 1
