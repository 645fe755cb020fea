// Texts of the page with a contrast below 4.5 (WCAG), each with its contrast and colours.
function luminance(color) {
  const [r, g, b] = color.slice(0, 3).map(value => {
    value /= 255;
    return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function parsed(style) {  // any CSS colour as [r, g, b, alpha]
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 1;
  const context = canvas.getContext('2d');
  context.fillStyle = style;
  context.fillRect(0, 0, 1, 1);
  const data = context.getImageData(0, 0, 1, 1).data;
  return [data[0], data[1], data[2], data[3] / 255];
}
function over(front, back) {
  return [0, 1, 2].map(i => front[i] * front[3] + back[i] * (1 - front[3])).concat([1]);
}
function background(element) {
  const layers = [];
  for (; element; element = element.parentElement) {
    layers.push(parsed(getComputedStyle(element).backgroundColor));
    if (layers.at(-1)[3] >= 1) break;
  }
  let color = [255, 255, 255, 1];
  while (layers.length) color = over(layers.pop(), color);
  return color;
}
const pale = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; (node = walker.nextNode()); ) {
  const text = node.textContent.trim(), element = node.parentElement, box = element.getBoundingClientRect();
  const style = getComputedStyle(element);
  if (!text || ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(element.tagName) || box.width < 2 || box.height < 2) continue;
  if (style.visibility !== 'visible' || style.display === 'none') continue;
  const back = background(element), front = parsed(style.color);
  for (let one = element; one; one = one.parentElement) front[3] *= parseFloat(getComputedStyle(one).opacity);
  const [high, low] = [luminance(over(front, back)), luminance(back)].sort((a, b) => b - a);
  const contrast = (high + 0.05) / (low + 0.05);
  if (contrast < 4.5) pale.push(`${text.slice(0, 40)} ${contrast.toFixed(2)} ${style.color} on ${back.slice(0, 3)}`);
}
return pale;
