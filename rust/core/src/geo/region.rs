//! Regions of a site, and the one that is nearest to a place.

use std::sync::Arc;

use super::Place;

/// A region: a name, and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// As declared.
    pub name: Arc<str>,
    /// Degrees, from -90 to 90.
    pub latitude: f64,
    /// Degrees, from -180 to 180.
    pub longitude: f64,
}

/// The region nearest to a place on the sphere, the first of equals; `None` if the place is not known.
pub fn nearest<'r>(regions: &'r [Region], place: &Place) -> Option<&'r Arc<str>> {
    let (latitude, longitude) = (place.latitude?, place.longitude?);
    let mut best: Option<(f64, &Arc<str>)> = None;
    for region in regions {
        let angle = haversine(latitude, longitude, region);
        if best.is_none_or(|(least, _)| angle < least) {
            best = Some((angle, &region.name));
        }
    }
    best.map(|(_, name)| name)
}

/// The haversine of the angle between a place and a region: it grows with the distance.
fn haversine(latitude: f64, longitude: f64, region: &Region) -> f64 {
    let half = |a: f64, b: f64| ((b - a).to_radians() / 2.0).sin().powi(2);
    let around = latitude.to_radians().cos() * region.latitude.to_radians().cos();
    half(latitude, region.latitude) + around * half(longitude, region.longitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_region_is_found_across_the_date_line_and_at_the_poles() {
        let region = |name: &str, latitude, longitude| Region {
            name: name.into(),
            latitude,
            longitude,
        };
        let regions = [
            region("fra1", 50.03, 8.57),
            region("iad1", 38.94, -77.45),
            region("hnd1", 35.55, 139.78),
        ];
        for (latitude, longitude, want) in [
            (52.5, 13.4, "fra1"),
            (43.7, -79.4, "iad1"),
            (-17.7, -178.0, "hnd1"),
            (90.0, 0.0, "fra1"),
            (21.3, -157.8, "hnd1"),
        ] {
            let place = Place {
                latitude: Some(latitude),
                longitude: Some(longitude),
                ..Place::default()
            };
            let found = nearest(&regions, &place).map(|name| &**name);
            assert_eq!(found, Some(want), "{latitude} {longitude}");
        }
        assert_eq!(nearest(&regions, &Place::default()), None);
        let somewhere = Place {
            latitude: Some(1.0),
            longitude: Some(1.0),
            ..Place::default()
        };
        assert_eq!(nearest(&[], &somewhere), None);
    }
}
