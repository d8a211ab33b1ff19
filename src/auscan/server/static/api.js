// Talk to the server. What it refuses becomes an Error with its sentence.
async function ask(path, method = "GET") {
  const answer = await fetch(path, { method });
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Error(typeof said.detail === "string" ? said.detail : `The server answered ${answer.status}.`);
  }
  return answer;
}

export const get = async (path) => (await ask(path)).json();
export const getBytes = async (path) => (await ask(path)).arrayBuffer();
export const post = async (path) => (await ask(path, "POST")).json();
export const remove = (path) => ask(path, "DELETE");

// Send a file; fetch cannot tell how much of it is gone, XMLHttpRequest can.
export function upload(file, options, progress) {
  const query = new URLSearchParams({ name: file.name, ...options });
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/jobs?${query}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => progress(event.loaded / event.total);
    request.onerror = () => reject(new Error("The connection to the Studio broke off."));
    request.onload = () => {
      const said = JSON.parse(request.responseText || "{}");
      if (request.status === 201) resolve(said);
      else reject(new Error(said.detail ?? `The server answered ${request.status}.`));
    };
    request.send(file);
  });
}

export const KINDS = { float32: Float32Array, float64: Float64Array, int32: Int32Array, uint8: Uint8Array };

// {"type": "float32", "data": base64} -> Float32Array, byte for byte what the server holds.
export function unpack({ type, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return new KINDS[type](bytes.buffer);
}
