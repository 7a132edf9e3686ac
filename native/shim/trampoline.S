/* dlsym and dlvsym as the program calls them. Each asks gpuslice_route(handle, name, version, caller), which answers
 * in two registers: a value to return, or where to jump. The jump leaves registers, stack and return address as they
 * were, so that libc sees the program as its caller. */

#if defined(__x86_64__)

.macro entry name, version
        .globl  \name
        .type   \name, @function
\name:
        .cfi_startproc
        endbr64
        pushq   %rdi
        .cfi_adjust_cfa_offset 8
        pushq   %rsi
        .cfi_adjust_cfa_offset 8
        pushq   %rdx
        .cfi_adjust_cfa_offset 8
        \version
        movq    24(%rsp), %rcx
        call    gpuslice_route
        movq    %rdx, %r11
        popq    %rdx
        .cfi_adjust_cfa_offset -8
        popq    %rsi
        .cfi_adjust_cfa_offset -8
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        testq   %r11, %r11
        jz      1f
        jmp     *%r11
1:      ret
        .cfi_endproc
        .size   \name, . - \name
.endm

        .text
        .hidden gpuslice_route
        .p2align 4
        entry   dlsym, "xorl %edx, %edx"
        .p2align 4
        entry   dlvsym, ""

#elif defined(__aarch64__)

.macro entry name, version
        .globl  \name
        .type   \name, %function
\name:
        .cfi_startproc
        hint    #34 /* bti c */
        stp     x29, x30, [sp, #-48]!
        .cfi_def_cfa_offset 48
        .cfi_offset x29, -48
        .cfi_offset x30, -40
        mov     x29, sp
        stp     x0, x1, [sp, #16]
        str     x2, [sp, #32]
        \version
        mov     x3, x30
        bl      gpuslice_route
        mov     x16, x1
        cbz     x16, 1f
        ldp     x0, x1, [sp, #16]
        ldr     x2, [sp, #32]
        ldp     x29, x30, [sp], #48
        br      x16
1:      ldp     x29, x30, [sp], #48
        ret
        .cfi_endproc
        .size   \name, . - \name
.endm

        .text
        .hidden gpuslice_route
        .p2align 4
        entry   dlsym, "mov x2, xzr"
        .p2align 4
        entry   dlvsym, ""

#else
#error "gpuslice runs on x86_64 and aarch64"
#endif

        .section .note.GNU-stack, "", %progbits
