/* Text for people and for comparing: one line per node, in order, with ids that depend on nothing but the order of
 * construction. The same graph gives the same bytes on every run and machine.
 *
 *     %3 = matmul(%1, %2) {nn} : f32[32,10]
 *     %4, %5, %6 = norm(%1, %2, %3) {...} : f32[2,8,8,4], f32[2,4], f32[2,4] */
#include "graph/graph_internal.h"

#include <stdio.h>

#include "ops/util.h"

static void dump_text(const rt_node *n, const char *attr, FILE *f)
{
    char b[RT_SHAPE_STR];
    for (unsigned o = 0; o < n->n_out; o++) fprintf(f, "%s%%%u", o ? ", " : "", (unsigned)n->first_out + o);
    fprintf(f, " = %s(", rt_op_name(n->op));
    for (int i = 0; i < n->n_in; i++) fprintf(f, "%s%%%u", i ? ", " : "", (unsigned)n->in[i].id);
    fprintf(f, ")%s%s%s :", attr[0] ? " {" : "", attr, attr[0] ? "}" : "");
    for (int o = 0; o < n->n_out; o++)
        fprintf(f, "%s %s", o ? "," : "", rt_shape_str(&n->out_shape[o], b, sizeof b));
    fputc('\n', f);
}

/* Attribute text comes from names that users choose: keep it inside a quoted label. */
static void put_quoted(const char *s, FILE *f)
{
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') fputc('\\', f);
        fputc((unsigned char)*s < 0x20 ? ' ' : *s, f);
    }
}

static void dump_dot(const rt_graph *g, size_t i, const char *attr, FILE *f)
{
    char b[RT_SHAPE_STR];
    const rt_node *n = g->node[i];
    fprintf(f, "  n%zu [label=\"%s", i, rt_op_name(n->op));
    if (attr[0]) {
        fputs("\\n", f);
        put_quoted(attr, f);
    }
    fprintf(f, "\\n%s\"%s];\n", rt_shape_str(&n->out_shape[0], b, sizeof b), n->n_in ? "" : ", shape=box");
    for (int k = 0; k < n->n_in; k++) fprintf(f, "  n%u -> n%zu;\n", (unsigned)g->owner[n->in[k].id], i);
}

rt_status rt_graph_dump(const rt_graph *g, FILE *f, bool dot)
{
    char attr[512];
    if (dot) fputs("digraph retort {\n  node [fontname=monospace];\n", f);
    for (size_t i = 0; i < g->n_node; i++) {
        const rt_op_row *row = rt_op_row_of(g->node[i]->op);
        attr[0] = 0;
        if (row->print_attr) row->print_attr(g->node[i], attr, sizeof attr);
        if (dot)
            dump_dot(g, i, attr, f);
        else
            dump_text(g->node[i], attr, f);
    }
    if (dot) fputs("}\n", f);
    return ferror(f) ? RT_RAISE_ERRNO("graph dump") : RT_OK;
}
