/* Rust's standard library takes its random numbers from ProcessPrng, which wine 8 lacks.
 * This gives it what wine has: SystemFunction036 of advapi32, by its other name RtlGenRandom.
 * For tests under wine alone. */
#include <windows.h>

#define MOST 0x40000000 /* at once, within a ULONG */

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) {
    SIZE_T done = 0;
    while (done < length) {
        SIZE_T rest = length - done;
        ULONG part = rest < MOST ? (ULONG)rest : MOST;
        if (!SystemFunction036(data + done, part)) {
            return FALSE;
        }
        done += part;
    }
    return TRUE;
}
