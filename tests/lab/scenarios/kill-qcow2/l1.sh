load_modules
probe disk-write /dev/vda
