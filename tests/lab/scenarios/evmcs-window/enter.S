/* Into L2 and back. The VMCS holds RSP, RIP and RFLAGS of both sides; the other registers are for L1 to change. */

	.text
	.globl enter_l2, l2_exited, on_com1, on_timer

/*
 * bool enter_l2(struct registers *l2, bool launched): L2 runs until an exit. False: it was not entered, the instruction
 * itself failed (CF: no VMCS, ZF: the VMCS's instruction_error says why).
 */
enter_l2:
	push %ebp
	push %ebx
	push %esi
	push %edi
	mov %esp, l1_esp
	mov 20(%esp), %eax
	mov %eax, l2_registers
	cmpb $0, 24(%esp)		/* MOV leaves the flags alone */
	mov 4(%eax), %ebx
	mov 8(%eax), %ecx
	mov 12(%eax), %edx
	mov 16(%eax), %esi
	mov 20(%eax), %edi
	mov 24(%eax), %ebp
	mov (%eax), %eax
	jne 1f
	vmlaunch
	jmp 2f
1:	vmresume
2:	xor %eax, %eax
	jmp 3f

/* Here L1 goes on after an exit (host_rip), with L2's registers, and on a stack of which only the address matters. */
l2_exited:
	mov l1_esp, %esp
	push %eax
	mov l2_registers, %eax
	mov %ebx, 4(%eax)
	mov %ecx, 8(%eax)
	mov %edx, 12(%eax)
	mov %esi, 16(%eax)
	mov %edi, 20(%eax)
	mov %ebp, 24(%eax)
	pop (%eax)
	mov $1, %eax
3:	pop %edi
	pop %esi
	pop %ebx
	pop %ebp
	ret

on_com1:
	pusha
	call com1_interrupt
	popa
	iret

on_timer:
	pusha
	call timer_interrupt
	popa
	iret

	.bss
	.align 4
l1_esp:
	.skip 4
l2_registers:
	.skip 4
	.section .note.GNU-stack, "", @progbits
