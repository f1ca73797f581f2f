/* The last sections of the page: what every stage cost, how to repeat the run, every knob. */
#include <string.h>

#include "report/internal.h"

/* --- costs ---------------------------------------------------------------------------------------------------------
 */
/* Sums of all pieces of a stage, constructions by method. */
typedef struct cost_sum {
    const char *stage, *method;
    rt_cost_entry sum;
    int n, resumed;
} cost_sum;
enum { MAX_COST_ROWS = 64 };

static int sum_costs(const d_data *d, cost_sum rows[MAX_COST_ROWS])
{
    static const char *const order[] = {"index", "whiten", "teach", "experts", "build", "eval", "measure"};
    int n = 0;
    for (size_t s = 0; s <= sizeof order / sizeof *order; s++) { /* the last round takes stages of other names */
        for (int i = 0; i < d->n_cost; i++) {
            const d_cost *c = &d->cost[i];
            size_t at = 0;
            while (at < sizeof order / sizeof *order && strcmp(order[at], c->stage)) at++;
            if (at != s) continue;
            int k = 0;
            while (k < n && (strcmp(rows[k].stage, c->stage) || strcmp(rows[k].method, c->method))) k++;
            if (k == MAX_COST_ROWS) continue;
            if (k == n) rows[n++] = (cost_sum){.stage = c->stage, .method = c->method};
            cost_sum *r = &rows[k];
            const rt_cost_entry *x = &c->cost;
            r->sum.wall_s += x->wall_s, r->sum.cpu_s += x->cpu_s, r->sum.device_s += x->device_s;
            r->sum.flops += x->flops, r->sum.energy_j += x->energy_j;
            r->sum.images_decoded += x->images_decoded, r->sum.images_seen += x->images_seen;
            r->sum.peak_host_bytes = fmax(r->sum.peak_host_bytes, x->peak_host_bytes);
            r->sum.peak_device_bytes = fmax(r->sum.peak_device_bytes, x->peak_device_bytes);
            r->resumed += x->segments > 1;
            r->n++;
        }
    }
    return n;
}

static void put_joules(text *t, double j)
{
    if (isnan(j))
        t_put(t, "<td>–</td>");
    else
        t_put(t, j < 3600 ? "<td>%.0f J</td>" : "<td>%.2f Wh</td>", j < 3600 ? j : j / 3600);
}

void part_costs(text *t, const d_data *d)
{
    char a[T_FIG], b[T_FIG], c[T_FIG];
    cost_sum rows[MAX_COST_ROWS];
    bool device = false, energy = false;
    int n = sum_costs(d, rows);
    for (int i = 0; i < n; i++) {
        device = device || rows[i].sum.device_s > 0 || rows[i].sum.peak_device_bytes > 0;
        energy = energy || !isnan(rows[i].sum.energy_j);
    }
    t_put(t,
          "<div class=\"wide\"><table><thead><tr><th>stage</th><th>pieces</th><th>of them resumed</th><th>wall</th>"
          "<th>processor</th><th>GFLOP</th><th>images decoded</th><th>images seen</th><th>peak "
          "memory</th>%s%s</tr></thead>"
          "<tbody>\n",
          device ? "<th>device</th><th>device memory</th>" : "", energy ? "<th>energy</th>" : "");
    for (int i = 0; i < n; i++) {
        const rt_cost_entry *x = &rows[i].sum;
        t_put(t, "<tr><td>");
        t_html(t, rows[i].stage);
        if (rows[i].method[0]) {
            t_put(t, " ");
            t_html(t, rows[i].method);
        }
        t_put(t, "</td><td>%d</td><td>%d</td><td>%s</td><td>%s</td><td>%s</td>", rows[i].n, rows[i].resumed,
              t_seconds(x->wall_s, a), t_seconds(x->cpu_s, b), t_gflop(x->flops, c));
        t_put(t, "<td>%s</td><td>%s</td><td>%s</td>", t_big(x->images_decoded, a), t_big(x->images_seen, b),
              t_bytes(x->peak_host_bytes, c));
        if (device) t_put(t, "<td>%s</td><td>%s</td>", t_seconds(x->device_s, a), t_bytes(x->peak_device_bytes, b));
        if (energy) put_joules(t, x->energy_j);
        t_put(t, "</tr>\n");
    }
    t_put(t,
          "</tbody></table></div>\n<p class=\"note\">GFLOP: 10⁹ floating-point operations counted from the graph, a "
          "multiply-add "
          "is two. Peak memory is the process's high-water mark. Interrupted work counts: the segments of a resumed "
          "piece are "
          "summed.%s</p>\n",
          energy ? "" : " Energy was not measured: there was no counter to read.");
}

/* --- protocol ------------------------------------------------------------------------------------------------------
 */
/* The resolved config as lists. Its lines are `key: value`, `section:` and `  key: value`, as rt_config_yaml writes
 * them. */
static void put_knobs(text *t, const char *yaml)
{
    bool open = false;
    t_put(t, "<div class=\"knobs\">");
    while (*yaml) {
        size_t n = strcspn(yaml, "\n");
        char line[1024];
        snprintf(line, sizeof line, "%.*s", (int)(n < 1000 ? n : 1000), yaml);
        yaml += n + (yaml[n] == '\n');
        char *colon = strchr(line, ':');
        if (!colon) continue;
        const char *key = line + (line[0] == ' ' ? 2 : 0), *value = colon + 1;
        while (*value == ' ') value++;
        *colon = 0;
        bool section = line[0] != ' ' && !*value;
        if (section || !open) {
            if (open) t_put(t, "</dl></section>");
            t_put(t, "<section><h3>");
            t_html(t, section ? key : "run");
            t_put(t, "</h3><dl>");
            open = true;
        }
        if (section) continue;
        t_put(t, "<dt>");
        t_html(t, key);
        t_put(t, "</dt><dd>");
        size_t length = strlen(value);
        if (length >= 2 && value[0] == '"' && value[length - 1] == '"') { /* quotes are YAML's, not the reader's */
            line[(size_t)(value - line) + length - 1] = 0;
            value++;
        }
        t_html(t, value[0] ? value : "–");
        t_put(t, "</dd>");
    }
    if (open) t_put(t, "</dl></section>");
    t_put(t, "</div>\n");
}

void part_protocol(text *t, const d_data *d)
{
    t_put(t, "<h2>Repeat it</h2>\n");
    if (d->command[0]) {
        t_put(t, "<pre>");
        t_html(t, d->command);
        t_put(t, "</pre>\n");
    }
    t_put(t, "<p class=\"note\">Every figure as a table: ");
    for (int i = 0; i < RES_TABLES; i++)
        t_put(t, "%s<a href=\"%s.csv\">%s.csv</a> <a href=\"%s.jsonl\">.jsonl</a>", i ? " · " : "", res_tables[i].name,
              res_tables[i].name, res_tables[i].name);
    t_put(t, "; queryable in <code>../results.db</code> (SQLite).</p>\n");
    if (d->config[0]) {
        t_put(t, "<h2>Every knob</h2>\n");
        put_knobs(t, d->config);
    }
}
