/* Entry of every payload, by PVH (ebx: start info) or multiboot (eax: magic, ebx: info): 32-bit, flat, paging off. */
	.section .multiboot, "a"
	.align 4
	.long 0x1badb002, 0x3, -(0x1badb002 + 0x3)

#ifndef NO_PVH
	.section .note.pvh, "a", @note
	.align 4
	.long 4, 4, 18			/* name size, desc size, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long _start
#endif

	.text
	.globl _start
_start:
	cld
	mov $stack_top, %esp
	push %ebx
	push %eax
	call payload
	/* payload() returns the value for the debug exit port */
	out %al, $0xf4
1:	hlt
	jmp 1b

/* Real-mode code for the other vCPUs; payload smp copies it below 1 MiB. It adds 1 to the word at 0x8ff0. */
	.globl ap_start, ap_end
	.code16
ap_start:
	lock incw %cs:0xff0
1:	hlt
	jmp 1b
ap_end:
	.code32

	.bss
	.align 16
	.skip 4096
stack_top:
	.section .note.GNU-stack, "", @progbits
