"use strict";

// A progressive web app's usual worker: pages and calls from the network, else from the cache.
importScripts("/workbox/workbox-sw/build/workbox-sw.js");
workbox.setConfig({ debug: false, modulePathCb: (name) => `/workbox/${name}/build/${name}.prod.js` });

const { NavigationRoute, registerRoute } = workbox.routing;
const { NetworkFirst } = workbox.strategies;

self.skipWaiting();
workbox.core.clientsClaim();
registerRoute(new NavigationRoute(new NetworkFirst({ cacheName: "pages" })));
registerRoute(({ url }) => url.pathname.startsWith("/api/"), new NetworkFirst({ cacheName: "api" }));
