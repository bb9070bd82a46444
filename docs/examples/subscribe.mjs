// Print what Nemotron Home Security tells on its two channels, live.
//
// It needs Node 22 or newer (Node 20 with --experimental-websocket), the address of Home Assistant and a long-lived
// access token, which your profile page in Home Assistant creates under Security:
//
//     HOME_ASSISTANT_URL=http://homeassistant.local:8123 HOME_ASSISTANT_TOKEN=... node subscribe.mjs
//
// In a browser the same works, with the address and the token written here.
const { HOME_ASSISTANT_URL: url, HOME_ASSISTANT_TOKEN: token } = process.env;

// The ids of our two commands: Home Assistant puts them on everything that belongs to them.
const EVENTS = 1;
const SYSTEM = 2;

// The number of the last event and the run that it belongs to, for the next `since`.
let last;
let run;

// While Home Assistant starts it already answers, but does not know our commands, or their integration is not loaded.
const NOT_YET = ["unknown_command", "not_found"];

function connect() {
  const socket = new WebSocket(`${url.replace(/^http/, "ws").replace(/\/$/, "")}/api/websocket`);
  const send = (message) => socket.send(JSON.stringify(message));

  const handlers = {
    auth_required: () => send({ type: "auth", access_token: token }),
    auth_invalid: ({ message }) => giveUp(`Home Assistant does not let us in: ${message}`),
    auth_ok() {
      // With `since`, what happened while we were away comes first. While it and `run` are undefined, JSON leaves them out.
      send({ id: EVENTS, type: "nemotron_security/events/subscribe", replay: 5, since: last, run });
      send({ id: SYSTEM, type: "nemotron_security/system/subscribe" });
    },
    result({ id, success, result, error }) {
      if (!success) {
        if (!NOT_YET.includes(error.code)) giveUp(error.message);
        console.log(error.message);
        socket.close();
        return;
      }
      if (id !== EVENTS) return;
      if (!result.complete) console.log("away too long: something is missing");
      if (last === undefined || !result.complete) last = result.seq;
      run = result.run;
    },
    event({ id, event }) {
      show(event);
      if (id === EVENTS) last = event.seq;
    },
  };

  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    handlers[message.type]?.(message);
  };
  socket.onclose = () => {
    console.log("not connected");
    setTimeout(connect, 2000);
  };
}

function show({ type, data }) {
  console.log(`${type}: ${(texts[type] ?? JSON.stringify)(data)}`);
}

const incident = ({ id, risk_level, risk_score, title, summary }) =>
  `#${id} ${risk_level ? `${risk_level} (${risk_score})` : "not judged"}: ${title}. ${summary}`;

const texts = {
  new_event: incident,
  event_updated: incident,
  detection: ({ object_type, confidence, camera_id }) =>
    `${object_type} (${Math.round(confidence * 100)}%) on camera ${camera_id}`,
  camera_status: ({ camera_id, status }) => `camera ${camera_id} is ${status}`,
  gpu_stats: ({ name, gpu_utilization, temperature }) => `${name}: ${gpu_utilization ?? "?"} %, ${temperature ?? "?"} °C`,
};

function giveUp(reason) {
  console.error(reason);
  process.exit(1);
}

connect();
