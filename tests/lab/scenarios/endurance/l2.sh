load_modules
count run /dev/vda 100000 4 # until it is told to stop
