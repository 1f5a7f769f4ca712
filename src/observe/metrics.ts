import { Counter, Gauge, Registry } from "prom-client";

import type { CapturePart, StandbyPart, StatusReport } from "./status-report.ts";

export const METRICS_CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

type Labels = Readonly<Record<string, string>>;
type Samples = readonly (readonly [Labels, number | null | undefined])[];

/**
 * What `status` says, in Prometheus' text format. Names: https://prometheus.io/docs/practices/naming/ (base units, `_total`
 * for what only grows while the agent runs). Unknown values have no sample.
 */
export async function renderMetrics(report: StatusReport): Promise<string> {
  const page = new MetricsPage(report.set ?? "");
  addSet(page, report);
  if (report.capture) addCapture(page, report.capture);
  if (report.standby) addStandby(page, report.standby);
  return page.text();
}

function addSet(page: MetricsPage, { epoch, log, rpo, alerts, agents }: StatusReport): void {
  page.gauge("tidemark_epoch", "Period with one writer of the log.", epoch);
  page.gauge("tidemark_log_first_offset", "Oldest offset that the log holds.", log?.first);
  page.gauge("tidemark_log_last_offset", "Newest offset of the log.", log?.last);
  page.gauge("tidemark_log_bytes", "Size of the log.", log?.bytes);
  page.gauge("tidemark_log_last_timestamp_seconds", "Time of the newest event.", secondsOf(log?.at));
  page.gauge("tidemark_rpo_seconds", "What would be lost if the primary died now.", fromMs(rpo.actualMs));
  page.gauge("tidemark_rpo_objective_seconds", "What may be lost.", rpo.objectiveMs / 1000);
  page.gauge("tidemark_rpo_ok", "1 while the objective is kept.", rpo.ok === null ? null : Number(rpo.ok));
  const counts = (["warning", "critical"] as const).map(
    (severity) => [{ severity }, alerts.filter((alert) => alert.severity === severity).length] as const,
  );
  page.gauges("tidemark_alerts", "Alerts that `tidemark status` shows.", counts);
  page.gauges(
    "tidemark_agent_running",
    "1 when everything that the agent is made of runs.",
    agents.map(({ role, state }) => [{ role }, Number(state === "running")]),
  );
}

function addCapture(page: MetricsPage, { offset, at, lagMs, overtaken, databases, files }: CapturePart): void {
  page.gauge("tidemark_capture_offset", "Last offset that the log acknowledged.", offset);
  page.gauge("tidemark_capture_timestamp_seconds", "Its time.", secondsOf(at));
  page.gauge("tidemark_capture_lag_seconds", "Age of the oldest commit that is not acknowledged.", fromMs(lagMs));
  page.counters("tidemark_capture_overtaken_total", "Commits that passed files that changed before them.", [
    [{}, overtaken],
  ]);
  const each = (value: (database: (typeof databases)[number]) => number | undefined): Samples =>
    databases.map((database) => [{ database: database.name }, value(database)]);
  page.gauges(
    "tidemark_database_protected",
    "1 while its commits are followed.",
    each(({ state }) => Number(state === "following" || state === "resting")),
  );
  page.gauges(
    "tidemark_database_wal_bytes",
    "Size of the database's WAL.",
    each(({ walBytes }) => walBytes),
  );
  page.gauges(
    "tidemark_database_pages",
    "Size of the database in pages.",
    each(({ pages }) => pages),
  );
  page.counters(
    "tidemark_database_commits_total",
    "Commits captured.",
    each(({ commits }) => commits),
  );
  page.counters(
    "tidemark_database_copies_total",
    "Full copies.",
    each(({ copies }) => copies),
  );
  page.counters(
    "tidemark_database_repairs_total",
    "Gaps that were repaired.",
    each(({ repairs }) => repairs),
  );
  page.counters(
    "tidemark_database_seals_total",
    "Seals of a WAL that was never idle.",
    each(({ seals }) => seals),
  );
  page.gauges(
    "tidemark_database_scrub_differing_pages",
    "Wrong pages that the last scrub found.",
    each(({ scrub }) => scrub.differing),
  );
  addTrees(page, files);
}

function addTrees(page: MetricsPage, trees: CapturePart["files"]): void {
  const each = (value: (tree: (typeof trees)[number]) => number | undefined): Samples =>
    trees.map((tree) => [{ tree: tree.name }, value(tree)]);
  page.gauges(
    "tidemark_tree_following",
    "1 while changes of the tree are captured.",
    each(({ state }) => Number(state === "following")),
  );
  page.gauges(
    "tidemark_tree_halted",
    "1 while nothing of the tree is captured.",
    each(({ state }) => Number(state === "halted")),
  );
  page.gauges(
    "tidemark_tree_files",
    "Files, as the log has them.",
    each(({ files }) => files),
  );
  page.gauges(
    "tidemark_tree_bytes",
    "Their size.",
    each(({ bytes }) => bytes),
  );
  page.gauges(
    "tidemark_tree_dirty",
    "Names that may have changed and were not looked at yet.",
    each(({ dirty }) => dirty),
  );
  page.gauges(
    "tidemark_tree_pending_bytes",
    "Size of the files that are being read.",
    each(({ pendingBytes }) => pendingBytes),
  );
  page.counters(
    "tidemark_tree_rescans_total",
    "Scans after the first.",
    each(({ rescans }) => rescans),
  );
  page.counters(
    "tidemark_tree_unstable_reads_total",
    "Reads during which the file changed.",
    each(({ unstableReads }) => unstableReads),
  );
}

function addStandby(page: MetricsPage, standby: StandbyPart): void {
  const { databases, trees, treeScrub } = standby;
  page.gauge("tidemark_standby_offset", "Last offset applied.", standby.offset);
  page.gauge("tidemark_standby_timestamp_seconds", "Its time.", secondsOf(standby.at));
  page.gauge("tidemark_standby_lag_events", "Events of the log that are not applied.", standby.lagEvents);
  page.gauge("tidemark_standby_lag_seconds", "Age of the oldest of them.", fromMs(standby.lagMs));
  page.gauge(
    "tidemark_standby_apply_seconds",
    "From the newest commit's event to its visibility.",
    fromMs(standby.lastApplyMs),
  );
  page.gauge("tidemark_standby_verified", "1 while everything matched its checksum.", Number(standby.verified));
  page.gauge("tidemark_standby_halted", "1 when only a person can make it go on.", Number(standby.state === "halted"));
  page.gauges(
    "tidemark_standby_database_wal_bytes",
    "Size of the WAL.",
    databases.map(({ name, walBytes }) => [{ database: name }, walBytes]),
  );
  page.counters(
    "tidemark_standby_database_repairs_total",
    "Repairs of wrong pages.",
    databases.map(({ name, repairs }) => [{ database: name }, repairs]),
  );
  page.gauges(
    "tidemark_standby_tree_files",
    "Files of a tree.",
    trees.map(({ name, files }) => [{ tree: name }, files]),
  );
  page.gauges(
    "tidemark_standby_tree_bytes",
    "Their size.",
    trees.map(({ name, bytes }) => [{ tree: name }, bytes]),
  );
  page.counters(
    "tidemark_standby_tree_repairs_total",
    "Repairs of a tree.",
    trees.map(({ name, repairs }) => [{ tree: name }, repairs]),
  );
  page.gauge("tidemark_standby_tree_scrub_differing", "Places that the last scrub found wrong.", treeScrub.differing);
  page.gauge("tidemark_standby_tree_scrub_strays", "Places that the log knows nothing of.", treeScrub.strays);
}

function fromMs(ms: number | null): number | null {
  return ms === null ? null : ms / 1000;
}

function secondsOf(at: string | null | undefined): number | null {
  return at === null || at === undefined ? null : Date.parse(at) / 1000;
}

/** Made anew for each scrape: what is gone from the status is gone from the page. */
class MetricsPage {
  readonly #registry = new Registry();

  constructor(set: string) {
    this.#registry.setDefaultLabels({ set });
  }

  gauge(name: string, help: string, value: number | null | undefined): void {
    this.gauges(name, help, [[{}, value]]);
  }

  gauges(name: string, help: string, samples: Samples): void {
    const known = withValues(samples);
    if (known.length === 0) return;
    const gauge = new Gauge({ name, help, labelNames: labelsOf(known), registers: [this.#registry] });
    for (const [labels, value] of known) gauge.set(labels, value);
  }

  counters(name: string, help: string, samples: Samples): void {
    const known = withValues(samples);
    if (known.length === 0) return;
    const counter = new Counter({ name, help, labelNames: labelsOf(known), registers: [this.#registry] });
    for (const [labels, value] of known) counter.inc(labels, value);
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }
}

function withValues(samples: Samples): (readonly [Labels, number])[] {
  return samples.flatMap(([labels, value]) =>
    value === null || value === undefined ? [] : [[labels, value] as const],
  );
}

function labelsOf(samples: readonly (readonly [Labels, number])[]): string[] {
  return Object.keys(samples[0]?.[0] ?? {});
}
