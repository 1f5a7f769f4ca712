import type { StorePlace } from "../config/config.ts";

const SSH_PORT = 22;

/** For people: where a store is, without its options. There are no secrets in a place. */
export function storeLocation(place: StorePlace): string {
  switch (place.kind) {
    case "directory":
      return place.directory;
    case "s3":
      return `s3://${place.bucket}/${place.prefix}`.replace(/\/$/, "");
    case "sftp": {
      const user = place.user === undefined ? "" : `${place.user}@`;
      const host = place.host.includes(":") ? `[${place.host}]` : place.host;
      const port = place.port === SSH_PORT ? "" : `:${place.port}`;
      const directory = place.directory.startsWith("/") ? place.directory : `/~/${place.directory}`;
      return `sftp://${user}${host}${port}${directory}`;
    }
    default:
      return place satisfies never;
  }
}
