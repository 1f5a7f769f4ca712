import type { ListedPoints } from "../restore/restore-points.ts";
import { textTable } from "./text-table.ts";

/** What can be restored, for people. */
export function pointsText({ ranges, bases }: ListedPoints): string[] {
  if (ranges.length === 0) return ["nothing can be restored yet"];
  const rows = ranges.map(({ first, last }) => [
    first.at,
    first.offset === last.offset ? "only this moment" : `to ${last.at}`,
    first.offset === last.offset ? `offset ${first.offset}` : `offsets ${first.offset} to ${last.offset}`,
    basesText(bases.filter((at) => at >= first.offset && at <= last.offset).length),
  ]);
  return textTable(rows);
}

function basesText(count: number): string {
  if (count === 0) return "";
  return count === 1 ? "1 base" : `${count} bases`;
}
