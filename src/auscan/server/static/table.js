// Load a result's table and look up its rows by time and face.
import { getBytes, TYPED_ARRAYS } from "./api.js";

// A line of JSON describes the columns; their values follow and are used without copying.
export async function loadTable(id, baseline) {
  const received = await getBytes(`/api/results/${id}/table?baseline=${encodeURIComponent(baseline)}`);
  let offset = new Uint8Array(received).indexOf(10) + 1;
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(received, 0, offset)));
  const columns = {};
  for (const [name, type] of Object.entries(head.columns)) {
    columns[name] = new TYPED_ARRAYS[type](received, offset, head.rows);
    offset += columns[name].byteLength;
  }
  return new Table(columns, head.reasons, head.rows);
}

export class Table {
  constructor(columns, reasons, rows) {
    Object.assign(this, { columns, reasons, rows });
    this.firstRow = [];  // index of the first row of each frame
    for (let row = 0; row < rows; row++) {
      if (row === 0 || columns.frame[row] !== columns.frame[row - 1]) this.firstRow.push(row);
    }
    this.times = Float64Array.from(this.firstRow, (row) => columns.timestamp[row]);
    const last = this.times.length - 1;
    this.duration = last > 0 ? this.times[last] - this.times[0] + (this.times[last] - this.times[0]) / last : 0;
    this.startTime = this.times[0] ?? 0;
    this.faces = [...new Set(columns.face_id)].filter((face) => face >= 0).sort((a, b) => a - b);
  }

  // Return the index into `times` of the frame shown at a time.
  frameAt(seconds) {
    let low = 0, high = this.times.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.times[middle] <= seconds + 1e-4) low = middle; else high = middle - 1;
    }
    return low;
  }

  // Return a time inside the frame, so that rounding does not seek to the previous frame.
  seekTime(index) {
    const next = this.times[index + 1] ?? this.startTime + this.duration;
    return this.times[index] + Math.min(0.5 * (next - this.times[index]), 0.02);
  }

  // Return the rows of the faces in a frame.
  rowsAt(index) {
    const rows = [];
    const end = this.firstRow[index + 1] ?? this.rows;
    for (let row = this.firstRow[index]; row < end; row++) if (this.columns.face_id[row] >= 0) rows.push(row);
    return rows;
  }

  reason(row) { return this.reasons[this.columns.reason[row]]; }
}
