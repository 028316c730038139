// Every method of the official JavaScript client that a single Chroma node supports, against a running server.
//
//   node check_client.mjs --port 8000 [--modules FOLDER] [--reset] [--reference] [--only TEXT]
//
// --modules names the folder that holds node_modules, --reset also checks reset(), which deletes everything, --reference forgives the
// known bugs of Chroma's own node.

import "./check_admin.mjs";
import "./check_records.mjs";
import { run } from "./harness.mjs";

process.exitCode = (await run()) ? 0 : 1;
