// Send requests to the server. Error responses become an Error with the server's message.
async function fetchChecked(path, method = "GET") {
  const response = await fetch(path, { method });
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Error(typeof body.detail === "string" ? body.detail : `The server answered ${response.status}.`);
  }
  return response;
}

export const get = async (path) => (await fetchChecked(path)).json();
export const getBytes = async (path) => (await fetchChecked(path)).arrayBuffer();
export const post = async (path) => (await fetchChecked(path, "POST")).json();
export const remove = (path) => fetchChecked(path, "DELETE");

// Upload a file; fetch reports no upload progress, XMLHttpRequest does.
export function upload(file, options, progress) {
  const query = new URLSearchParams({ name: file.name, ...options });
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/jobs?${query}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => progress(event.loaded / event.total);
    request.onerror = () => reject(new Error("The connection to the Studio was lost."));
    request.onload = () => {
      const body = JSON.parse(request.responseText || "{}");
      if (request.status === 201) resolve(body);
      else reject(new Error(body.detail ?? `The server answered ${request.status}.`));
    };
    request.send(file);
  });
}

export const TYPED_ARRAYS = { float32: Float32Array, float64: Float64Array, int32: Int32Array, uint8: Uint8Array };

// {"type": "float32", "data": base64} -> Float32Array with the same bytes as on the server.
export function unpack({ type, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return new TYPED_ARRAYS[type](bytes.buffer);
}
