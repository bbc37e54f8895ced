#include "l2.h"

#include "guest.h"

#define PAGE __attribute__((aligned(4096)))

enum {
	MSR_FEATURE_CONTROL = 0x3a,
	MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP = 0x175,
	MSR_SYSENTER_EIP = 0x176,
	MSR_VMX_BASIC = 0x480,
	MSR_VMX_PIN = 0x481,
	MSR_VMX_CPU = 0x482,
	MSR_VMX_EXIT = 0x483,
	MSR_VMX_ENTRY = 0x484,
	MSR_GUEST_OS_ID = 0x40000000,
	MSR_VP_ASSIST = 0x40000073,
};
enum { FEATURE_LOCKED = 1, FEATURE_VMX = 4, CR4_VMXE = 0x2000, CPU_MSR_BITMAP = 1 << 28 };
enum { CODE = 0xc09b, DATA = 0xc093, TSS_BUSY = 0x8b, UNUSABLE = 0x10000 };
enum { EXIT_INTERRUPT = 1, EXIT_CPUID = 10, EXIT_VMCALL = 18, EXIT_IO = 30, L2_STACK = 4096 };
enum { L1_WORK = 1000 };
enum { PIN_INTERRUPTS = 1 << 0, CPU_ALL_IO = 1 << 24, PORT_POST = 0x80 };
#define RFLAGS_IF	  0x200U
#define EXIT_ENTRY_FAILED 0x80000000U

bool enter_l2(struct registers *registers, bool launched); /* enter.S */
void l2_exited(void);

static uint8_t vmxon_region[4096] PAGE, no_msrs[4096] PAGE; /* an MSR bitmap of zeros: L2 may use them all */
static struct assist_page assist PAGE;
static struct evmcs evmcs[2] PAGE;
static uint8_t stack[2][L2_STACK] PAGE;
static uint8_t tss[2][TSS_BYTES] __attribute__((aligned(8)));

/* ---- in L2 ---- */

enum difference {
	NONE,
	SEG_CS,
	SEG_SS,
	SEG_DS,
	SEG_GS,
	SEG_TR,
	GS_BASE,
	SYS_CS,
	SYS_ESP,
	SYS_EIP,
	GDT_LIMIT,
	DIFFERENCES,
};

static const char *const difference_names[DIFFERENCES] = {
	[SEG_CS] = "CS is not its own,",
	[SEG_SS] = "SS is not its own,",
	[SEG_DS] = "DS is not its own,",
	[SEG_GS] = "GS is not its own,",
	[SEG_TR] = "TR is not its own,",
	[GS_BASE] = "GS has another's base,",
	[SYS_CS] = "SYSENTER_CS is not its own,",
	[SYS_ESP] = "SYSENTER_ESP is not its own,",
	[SYS_EIP] = "SYSENTER_EIP is not its own,",
	[GDT_LIMIT] = "GDTR's limit is not its own,",
};

#define SELECTOR(name)                                                                                       \
	({                                                                                                   \
		uint32_t value_;                                                                             \
		__asm__ volatile("mov %%" name ", %0" : "=r"(value_));                                       \
		value_ & 0xffff;                                                                             \
	})

static struct l2 *self_by_gs(void)
{
	struct l2 *self;
	__asm__ volatile("mov %%gs:0, %0" : "=r"(self));
	return self;
}

/* The first thing of its VMCS that is not its own. */
static enum difference l2_look(const struct l2 *self)
{
	const struct traits *mine = &self->traits;
	uint32_t task;
	struct {
		uint16_t limit;
		uint32_t base;
	} __attribute__((packed)) gdtr;
	__asm__ volatile("str %0" : "=r"(task));
	__asm__ volatile("sgdt %0" : "=m"(gdtr));
	const struct {
		uint32_t is, should;
		enum difference name;
	} rows[] = {
		{SELECTOR("cs"), mine->code, SEG_CS},
		{SELECTOR("ss"), mine->data, SEG_SS},
		{SELECTOR("ds"), mine->data, SEG_DS},
		{SELECTOR("gs"), mine->data, SEG_GS},
		{task & 0xffff, mine->tss, SEG_TR},
		{(uint32_t)self_by_gs(), (uint32_t)self, GS_BASE},
		{(uint32_t)rdmsr(MSR_SYSENTER_CS), mine->sysenter_cs, SYS_CS},
		{(uint32_t)rdmsr(MSR_SYSENTER_ESP), mine->sysenter_esp, SYS_ESP},
		{(uint32_t)rdmsr(MSR_SYSENTER_EIP), mine->sysenter_eip, SYS_EIP},
		{gdtr.limit, mine->gdt_limit, GDT_LIMIT},
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].is != rows[i].should)
			return rows[i].name;
	return NONE;
}

static __attribute__((noreturn)) void l2_run(void)
{
	struct l2 *self = self_by_gs();
	for (uint32_t count = 1;; count++) {
		void (*errand)(void) = self->errand;
		self->errand = NULL;
		if (errand)
			errand();
		__asm__ volatile("vmcall"
				 :
				 : "b"(self->traits.name), "c"(count), "d"(l2_look(self))
				 : "memory");
	}
}

/* CPUID has two bytes, OUT one, VMCALL three. */
static __attribute__((noreturn)) void l2_run_work(void)
{
	struct l2 *self = self_by_gs();
	for (uint32_t count = 1;; count++) {
		uint32_t leaf[4];
		cpuid(1, 0, leaf);
		__asm__ volatile("outb %b0, %w1" : : "a"(leaf[0]), "d"(PORT_POST));
		__asm__ volatile("vmcall"
				 :
				 : "b"(self->traits.name), "c"(count), "d"(l2_look(self))
				 : "memory");
	}
}

/* ---- in L1 ---- */

static bool refuse(const char *why)
{
	say("no window: ");
	say(why);
	say("\n");
	return false;
}

static bool offers_evmcs(void)
{
	uint32_t r[4];
	cpuid(0x40000000, 0, r);
	if (r[0] < 0x4000000a)
		return false;
	cpuid(0x4000000a, 0, r); /* EAX: lowest and highest version */
	return (r[0] & 0xff) <= EVMCS_VERSION && EVMCS_VERSION <= (r[0] >> 8 & 0xff);
}

bool vmx_on(void)
{
	uint32_t r[4];
	bool failed;
	cpuid(1, 0, r);
	if (!(r[2] & 1 << 5))
		return refuse("no VMX");
	if (!offers_evmcs())
		return refuse("no enlightened VMCS of version 1");
	if (!(rdmsr(MSR_FEATURE_CONTROL) & FEATURE_LOCKED))
		wrmsr(MSR_FEATURE_CONTROL, FEATURE_LOCKED | FEATURE_VMX);
	if (!(rdmsr(MSR_FEATURE_CONTROL) & FEATURE_VMX))
		return refuse("VMX is locked away by IA32_FEATURE_CONTROL");
	wrmsr(MSR_GUEST_OS_ID, UINT64_C(1) << 63 | 1); /* an open-source system; 0 would be none */
	wrmsr(MSR_VP_ASSIST, (uint32_t)&assist | 1);
	*(uint32_t *)vmxon_region = (uint32_t)rdmsr(MSR_VMX_BASIC);
	uint64_t address = (uint32_t)vmxon_region;
	__asm__ volatile("mov %%cr4, %%eax\n\t"
			 "or %2, %%eax\n\t"
			 "mov %%eax, %%cr4\n\t"
			 "vmxon %1\n\t"
			 "setbe %0"
			 : "=qm"(failed)
			 : "m"(address), "i"(CR4_VMXE)
			 : "eax", "cc", "memory");
	return failed ? refuse("VMXON failed") : true;
}

/* What must be 1 is in an MSR's lower half, what may be 1 in the upper. */
static uint32_t controls(uint32_t msr, uint32_t wanted)
{
	uint64_t allowed = rdmsr(msr);
	return (wanted | (uint32_t)allowed) & (uint32_t)(allowed >> 32);
}

static void set_host(struct evmcs *vmcs)
{
	uint32_t cr0, cr3, cr4;
	__asm__ volatile("mov %%cr0, %0\n\tmov %%cr3, %1\n\tmov %%cr4, %2" : "=r"(cr0), "=r"(cr3), "=r"(cr4));
	vmcs->host_cr0 = vmcs->guest_cr0 = vmcs->cr0_shadow = cr0;
	vmcs->host_cr3 = vmcs->guest_cr3 = cr3; /* L2 has no memory of its own, and no EPT */
	vmcs->host_cr4 = vmcs->guest_cr4 = vmcs->cr4_shadow = cr4;
	for (unsigned i = ES; i <= GS; i++)
		vmcs->host_selector[i] = i == CS ? SEL_CODE : SEL_DATA;
	vmcs->host_selector[GS + 1] = SEL_TSS;
	vmcs->host_tr_base = (uint32_t)l1_tss;
	vmcs->host_gdtr_base = (uint32_t)gdt;
	vmcs->host_idtr_base = (uint32_t)idt;
	vmcs->host_rip = (uint32_t)l2_exited;
	vmcs->host_rsp = (uint32_t)stack; /* for no instruction: it is replaced by the first */
}

static void set_guest(const struct l2 *l2, unsigned number)
{
	const struct traits *mine = &l2->traits;
	struct evmcs *vmcs = l2->evmcs;
	for (unsigned i = ES; i <= GS; i++) {
		vmcs->guest_selector[i] = i == CS ? mine->code : mine->data;
		vmcs->guest_limit[i] = mine->limit;
		vmcs->guest_access[i] = i == CS ? CODE : DATA;
	}
	vmcs->guest_base[GS] = (uint32_t)l2;
	vmcs->guest_access[LDTR] = UNUSABLE;
	vmcs->guest_selector[TR] = mine->tss;
	vmcs->guest_limit[TR] = TSS_BYTES - 1;
	vmcs->guest_access[TR] = TSS_BUSY;
	vmcs->guest_base[TR] = (uint32_t)tss[number];
	vmcs->guest_base[GDTR] = (uint32_t)gdt;
	vmcs->guest_limit[GDTR] = mine->gdt_limit;
	vmcs->guest_sysenter_cs = mine->sysenter_cs;
	vmcs->guest_sysenter_esp = mine->sysenter_esp;
	vmcs->guest_sysenter_eip = mine->sysenter_eip;
	vmcs->guest_dr7 = 0x400;
	vmcs->guest_rflags = 2;
	vmcs->guest_rsp = (uint32_t)stack[number] + L2_STACK - 16;
	vmcs->guest_rip = (uint32_t)l2_run;
	vmcs->link_pointer = UINT64_MAX;
}

void l2_create(struct l2 *l2, unsigned number)
{
	uint16_t selector = (uint16_t)(SEL_L2 + number * SEL_L2_BYTES);
	struct evmcs *vmcs = &evmcs[number];
	*l2 = (struct l2){.self = l2, .evmcs = vmcs};
	l2->traits = (struct traits){
		.name = 'A' + number,
		.limit = number ? 0x7fffffff : 0xffffffff,
		.code = selector,
		.data = selector + 8,
		.tss = selector + 16,
		.gdt_limit = (uint16_t)(sizeof(gdt) - 1 - number * 8),
		.sysenter_cs = 0xa00 + number * 0x100,
		.sysenter_esp = 0xa000 + number * 0x1000,
		.sysenter_eip = 0xa0000 + number * 0x10000,
	};
	gdt[selector / 8] = descriptor(0, l2->traits.limit, CODE);
	gdt[selector / 8 + 1] = descriptor(0, l2->traits.limit, DATA);
	gdt[selector / 8 + 2] = descriptor((uint32_t)tss[number], TSS_BYTES - 1, TSS_BUSY);

	for (uint32_t *word = (uint32_t *)vmcs; word < (uint32_t *)(vmcs + 1); word++)
		*(volatile uint32_t *)word = 0;
	vmcs->revision = EVMCS_VERSION;
	vmcs->pin_controls = controls(MSR_VMX_PIN, 0);
	vmcs->cpu_controls = controls(MSR_VMX_CPU, CPU_MSR_BITMAP);
	vmcs->exit_controls = controls(MSR_VMX_EXIT, 0);
	vmcs->entry_controls = controls(MSR_VMX_ENTRY, 0);
	vmcs->exception_bitmap = 0xffffffff; /* L2 causes none, and one that it gets is told */
	vmcs->msr_bitmap = (uint32_t)no_msrs;
	set_host(vmcs);
	set_guest(l2, number);
}

void l2_select(const struct l2 *l2)
{
	assist.current_evmcs = (uint32_t)l2->evmcs;
	assist.enlighten_entry = 1;
	__asm__ volatile(""
			 :
			 :
			 : "memory"); /* before the entry, which the compiler does not know to read it */
}

static bool wrong(struct l2 *l2, const char *what, uint32_t value)
{
	l2->wrong = what;
	l2->value = value;
	return false;
}

/* L0 has brought the rarely read fields back, too. */
static bool fields_are_own(struct l2 *l2)
{
	const struct evmcs *vmcs = l2->evmcs;
	for (unsigned i = ES; i <= GS; i++) {
		if (vmcs->guest_selector[i] != (i == CS ? l2->traits.code : l2->traits.data))
			return wrong(l2, "after the exit a selector is", vmcs->guest_selector[i]);
		if (vmcs->guest_limit[i] != l2->traits.limit)
			return wrong(l2, "after the exit a limit is", vmcs->guest_limit[i]);
	}
	if (vmcs->guest_sysenter_eip != l2->traits.sysenter_eip)
		return wrong(l2, "after the exit SYSENTER_EIP is", (uint32_t)vmcs->guest_sysenter_eip);
	return true;
}

static bool enter(struct l2 *l2)
{
	if (!enter_l2(&l2->registers, l2->launched))
		return wrong(l2, "the instruction failed, error", l2->evmcs->instruction_error);
	l2->launched = true;
	if (l2->evmcs->exit_reason & EXIT_ENTRY_FAILED)
		return wrong(l2, "entry failed", l2->evmcs->exit_reason);
	return true;
}

/* It has told its count. */
static bool check_told(struct l2 *l2)
{
	const struct registers *told = &l2->registers;
	if (told->ebx != l2->traits.name)
		return wrong(l2, "takes itself for", told->ebx);
	if (told->ecx != l2->count + 1)
		return wrong(l2, "counts", told->ecx);
	l2->count = told->ecx;
	if (told->edx != NONE)
		return wrong(l2, told->edx < DIFFERENCES ? difference_names[told->edx] : "EDX is", told->edx);
	return fields_are_own(l2);
}

bool l2_enter(struct l2 *l2)
{
	if (!enter(l2))
		return false;
	if (l2->evmcs->exit_reason != EXIT_VMCALL)
		return wrong(l2, "exit other than VMCALL,", l2->evmcs->exit_reason);
	return check_told(l2);
}

void l2_give_work(struct l2 *l2)
{
	l2->evmcs->guest_rip = (uint32_t)l2_run_work;
	l2->evmcs->guest_rflags |= RFLAGS_IF; /* of no consequence: its interrupts are L1's */
	l2->evmcs->pin_controls = controls(MSR_VMX_PIN, PIN_INTERRUPTS);
	l2->evmcs->cpu_controls = controls(MSR_VMX_CPU, CPU_MSR_BITMAP | CPU_ALL_IO);
}

/* The exit is that of `reason`, which is `bytes` long and always at one place. */
static bool check_exit(struct l2 *l2, unsigned step, uint32_t reason, uint32_t bytes)
{
	const struct evmcs *vmcs = l2->evmcs;
	if (vmcs->exit_reason != reason)
		return wrong(l2, "an exit out of turn,", vmcs->exit_reason);
	if (vmcs->exit_instruction_bytes != bytes)
		return wrong(l2, "an instruction of other length,", vmcs->exit_instruction_bytes);
	if (!l2->worked[step])
		l2->worked[step] = (uint32_t)vmcs->guest_rip;
	return l2->worked[step] == vmcs->guest_rip || wrong(l2, "an exit elsewhere, by", reason);
}

bool l2_work(struct l2 *l2)
{
	static const struct {
		uint32_t reason, bytes;
	} steps[] = {{EXIT_CPUID, 2}, {EXIT_IO, 1}, {EXIT_VMCALL, 3}};
	for (unsigned step = 0; step < 3;) {
		if (!enter(l2))
			return false;
		l2_mark_clean(l2);
		if (l2->evmcs->exit_reason == EXIT_INTERRUPT) {
			take_interrupt();
			continue;
		}
		/* Twice: at once, and as late as a hypervisor whose user space does the work. */
		for (int look = 0; look < 2; look++) {
			if (!check_exit(l2, step, steps[step].reason, steps[step].bytes))
				return false;
			for (volatile int i = 0; look == 0 && i < L1_WORK; i++)
				continue;
		}
		l2_skip(l2);
		step++;
	}
	return check_told(l2);
}

void l2_mark_clean(struct l2 *l2)
{
	l2->evmcs->clean_fields |= CLEAN_ALL;
}

void l2_skip(struct l2 *l2)
{
	l2->evmcs->guest_rip += l2->evmcs->exit_instruction_bytes;
}

void l2_change(struct l2 *l2)
{
	l2->traits.limit ^= 0x40000000;
	l2->traits.sysenter_eip += 0x100;
	for (unsigned i = ES; i <= GS; i++)
		l2->evmcs->guest_limit[i] = l2->traits.limit;
	l2->evmcs->guest_sysenter_eip = l2->traits.sysenter_eip;
	l2->evmcs->clean_fields &= ~(uint32_t)(CLEAN_GUEST_GROUP1 | CLEAN_GUEST_GROUP2);
}

void l2_clear(struct l2 *l2)
{
	uint64_t address = (uint32_t)l2->evmcs;
	__asm__ volatile("vmclear %0" : : "m"(address) : "cc", "memory");
	l2->launched = false;
}
