/** Rows of a scenario, as Markdown. */
export interface Table {
  readonly title: string;
  /** What is measured and how, one paragraph. */
  readonly method: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export function markdown(table: Table): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = line(table.columns.map((_, i) => (i === 0 ? "---" : "---:")));
  return [`## ${table.title}`, "", table.method, "", line(table.columns), rule, ...table.rows.map(line), ""].join("\n");
}

export function ms(value: number): string {
  if (!Number.isFinite(value)) return "–";
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function ratio(value: number, base: number): string {
  return Number.isFinite(value / base) ? `${(value / base).toPrecision(3)} ×` : "–";
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 2 : 1)} %`;
}

export function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}
