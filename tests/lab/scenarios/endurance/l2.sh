load_modules
count run /dev/vda $((CYCLES * 16)) 4
