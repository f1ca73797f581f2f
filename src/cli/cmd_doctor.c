/* Rows about this machine. Exit 0: all green; 3: some yellow; 69: some red. */
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

rt_status cmd_doctor(const cli_args *a)
{
    static const char *const word[] = {"green", "yellow", "red"};
    static const char *const colour[] = {"\033[32m", "\033[33m", "\033[31m"};
    doctor_row rows[DOCTOR_MAX_ROWS];
    int count[3] = {0}, first[3] = {-1, -1, -1};
    int n = doctor_run(a->n_pos ? a->pos[0] : ".", rows);
    bool tty = isatty(STDOUT_FILENO);
    json_t *list = a->json ? json_array() : NULL;
    for (int i = 0; i < n; i++) {
        const doctor_row *r = &rows[i];
        if (!count[r->level]++) first[r->level] = i;
        if (a->json) {
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "level", word[r->level], "name", r->name,
                                                  "value", r->value, "fix", r->fix));
            continue;
        }
        printf("%s%-6s%s  %-18s %s\n", tty ? colour[r->level] : "", word[r->level], tty ? "\033[0m" : "", r->name,
               r->value);
        if (r->level != DOCTOR_GREEN) printf("%28sfix: %s\n", "", r->fix);
    }
    if (a->json) {
        json_dumpf(list, stdout, JSON_INDENT(1));
        printf("\n");
        json_decref(list);
    }
    if (count[DOCTOR_RED]) {
        const doctor_row *r = &rows[first[DOCTOR_RED]];
        rt_status st = RT_RAISE(RT_ERR_UNSUPPORTED, "%d red row%s; the first is %s: %s", count[DOCTOR_RED],
                                count[DOCTOR_RED] == 1 ? "" : "s", r->name, r->value);
        return rt_error_fix(st, "%s", r->fix);
    }
    if (count[DOCTOR_YELLOW]) {
        const doctor_row *r = &rows[first[DOCTOR_YELLOW]];
        rt_status st = RT_RAISE(RT_ERR_GATE, "%d yellow row%s; the first is %s: %s", count[DOCTOR_YELLOW],
                                count[DOCTOR_YELLOW] == 1 ? "" : "s", r->name, r->value);
        return rt_error_fix(st, "%s", r->fix);
    }
    return RT_OK;
}
