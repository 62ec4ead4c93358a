// A video file or the camera -> frames at a fixed rate, as pixels of any scale.

/** Frames of a video element, which seeks to each of them. */
export class FileFrames {
  constructor(video, rate) {
    this.video = video;
    this.rate = rate;
    this.width = video.videoWidth;
    this.height = video.videoHeight;
    this.count = Math.max(1, Math.floor(video.duration * rate + 0.05));
    this.shown = -1;
  }

  async pixels(i, scale) {
    if (i !== this.shown) {
      await seek(this.video, (i + 0.5) / this.rate);
      this.shown = i;
    }
    return drawn(this.video, this.width, this.height, scale);
  }
}

/** Frames that the camera gave, of which the nearest in time counts. */
export class CameraFrames {
  constructor(pictures, rate) {
    this.pictures = pictures;
    this.rate = rate;
    this.width = pictures[0].bitmap.width;
    this.height = pictures[0].bitmap.height;
    const seconds = pictures[pictures.length - 1].time - pictures[0].time;
    this.count = Math.floor(seconds * rate) + 1;
  }

  async pixels(i, scale) {
    const wanted = this.pictures[0].time + i / this.rate;
    const away = (picture) => Math.abs(picture.time - wanted);
    const nearest = this.pictures.reduce((best, picture) => (away(picture) < away(best) ? picture : best));
    return drawn(nearest.bitmap, this.width, this.height, scale);
  }
}

/** Record the camera's pictures while `going()`; the next is asked for before this one is kept, so that none is missed. */
export function record(video, going) {
  return new Promise((resolve) => {
    const pictures = [];
    const take = (_, { mediaTime: time }) => {
      const more = going();
      if (more) video.requestVideoFrameCallback(take);
      if (!pictures.length || time > pictures[pictures.length - 1].time) pictures.push({ time, bitmap: createImageBitmap(video) });
      if (!more) resolve(Promise.all(pictures.map(async ({ time, bitmap }) => ({ time, bitmap: await bitmap }))));
    };
    video.requestVideoFrameCallback(take);
  });
}

/** Load a file into a video element. */
export function opened(video, file) {
  return new Promise((resolve, reject) => {
    video.onloadeddata = () => resolve();
    video.onerror = () => reject(new Error(`${file.name} cannot be played by this browser.`));
    video.srcObject = null;
    video.src = URL.createObjectURL(file);
  });
}

function seek(video, time) {
  return new Promise((resolve) => {
    video.onseeked = () => resolve();
    video.currentTime = time;
  });
}

const canvas = document.createElement("canvas");

function drawn(source, width, height, scale) {
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
